"""CrossSim's own process: LeNet with 4-bit weights on arrays of 32 rows and columns, with programming error, read noise, and wires."""

import json
import sys
import time

import torch
from simulator.algorithms.dnn.torch.convert import from_torch
from torch import nn

from simulator import CrossSimParameters

asked = json.loads(sys.argv[1])
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
).eval()  # fmt: skip
parameters = CrossSimParameters()
parameters.core.rows_max = parameters.core.cols_max = 32
parameters.core.weight_bits = parameters.xbar.device.cell_bits = 4
parameters.xbar.device.Rmin, parameters.xbar.device.Rmax = 25_000, 1_000_000
parameters.xbar.device.programming_error.enable = True
parameters.xbar.device.programming_error.model = "NormalIndependentDevice"
parameters.xbar.device.programming_error.magnitude = 0.05
if asked["read_noise"]:
    parameters.xbar.device.read_noise.enable = True
    parameters.xbar.device.read_noise.model = "NormalIndependentDevice"
    parameters.xbar.device.read_noise.magnitude = asked["read_noise"]
if asked["ohm"]:
    parameters.xbar.array.parasitics.enable = True
    parameters.xbar.array.parasitics.Rp_row = parameters.xbar.array.parasitics.Rp_col = asked["ohm"]
analog = from_torch(net, parameters)
images = torch.rand(asked["images"], 1, 28, 28)
with torch.inference_mode():
    analog(images[:1])
    started = time.process_time()
    analog(images)
    print(json.dumps({"seconds_once": 0.0, "seconds_per_image": (time.process_time() - started) / len(images)}))
