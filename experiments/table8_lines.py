"""Table 8: the image on several lines: every signal, weight and line of few bits, every window as short, and more levels of a pixel.

Run: python experiments/table8_lines.py [--networks lenet] [--seeds 5]
Five lines count a pixel in 16 levels with 2 bits each, in 36 with 3, in 76 with 4; a dithered image stays on one line. See decision 19.
"""

from methods import Method
from printed import Aims
from tables import Bench

from memspike.pixels import PixelCode

METHODS = [
    Method("default recipe"),
    Method("image on 5 lines", pixels=PixelCode(lines=5)),
    Method("image dithered", pixels=PixelCode(dither=2)),
    Method("image dithered, range fitted", pixels=PixelCode(dither=2), fit=True),
]

TRIED = """AlexNet's dithered row and that on 5 lines at 2/2 bits are of a build before statistics were taken anew at the end of a stage (decision 20):
taken so by hand, they are 81.02 and 83.28 %, so that fitting the range adds nothing to dithering."""
BENCH = Bench("table8_lines", "The image on several lines", METHODS, bits=(4, 3, 2), aims=Aims(subject="image on 5 lines", tried=TRIED), brief=True)

if __name__ == "__main__":
    BENCH.main()
