"""Table 7: the image alone in few bits, everything behind it in 8: what of a table's loss the image's counts cost before any neuron fires.

Run: python experiments/table7_image.py [--networks alexnet_cifar] [--seeds 3]
"""

from methods import Method
from printed import Aims
from tables import Bench

from memspike.pixels import PixelCode

METHODS = [
    *(Method(f"image of {bits} bits", image=bits) for bits in (8, 4, 3, 2)),
    *(Method(f"image of {bits} bits, dithered", image=bits, pixels=PixelCode(dither=2)) for bits in (4, 3, 2)),
    *(Method(f"image of {bits} bits, dithered, range fitted", image=bits, pixels=PixelCode(dither=2), fit=True) for bits in (4, 3, 2)),
]

TRIED = """AlexNet's rows are of a build before statistics were taken anew at the end of a stage (decision 20): taken so by hand, they are 81.20 and 83.68 %."""
BENCH = Bench("table7_image", "The image alone", METHODS, bits=(8,), aims=Aims(subject="image of 8 bits", tried=TRIED), brief=True)

if __name__ == "__main__":
    BENCH.main()
