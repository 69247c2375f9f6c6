"""aihwkit's own process: LeNet in inference on tiles of 32 rows and columns, 4-bit inputs, cells a day after programming, with read noise or without."""

import json
import sys
import time

import torch
from aihwkit.inference import PCMLikeNoiseModel, ReRamWan2022NoiseModel
from aihwkit.inference.utils import drift_analog_weights, program_analog_weights
from aihwkit.nn.conversion import convert_to_analog
from aihwkit.simulator.configs import InferenceRPUConfig, WeightNoiseType
from torch import nn

asked = json.loads(sys.argv[1])
torch.manual_seed(0)
torch.set_num_threads(1)
net = nn.Sequential(
    nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
).eval()  # fmt: skip
config = InferenceRPUConfig()
config.mapping.max_input_size = config.mapping.max_output_size = 32
config.noise_model = PCMLikeNoiseModel(g_max=25.0) if asked["cells"] == "pcm" else ReRamWan2022NoiseModel(g_max=40.0)
config.drift_compensation = None
config.forward.inp_res = 1 / (2**4 - 2)
config.forward.out_noise = 0.0
if asked["read_noise"]:
    config.forward.w_noise = asked["read_noise"]
    config.forward.w_noise_type = WeightNoiseType.PCM_READ if asked["cells"] == "pcm" else WeightNoiseType.ADDITIVE_CONSTANT
config.forward.ir_drop = asked["ir_drop"]
analog = convert_to_analog(net, config).eval()
images = torch.rand(asked["images"], 1, 28, 28)
with torch.inference_mode():
    analog(images[:1])
    started = time.process_time()
    program_analog_weights(analog, None)  # a new chip, as ours: programmed, then read a day later
    drift_analog_weights(analog, 86400.0)
    programmed = time.process_time()
    for start in range(0, len(images), 256):
        analog(images[start : start + 256])
    print(json.dumps({"seconds_once": programmed - started, "seconds_per_image": (time.process_time() - programmed) / len(images)}))
