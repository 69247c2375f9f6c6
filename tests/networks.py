"""Networks for tests: every supported layer in one, and the ways people write things."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Everything(nn.Module):
    """Batch norm, a residual add, a concat, depthwise convolution, dilation, average and max pooling, a module used twice."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.depthwise_norm = nn.BatchNorm2d(12)
        self.pointwise = nn.Conv2d(12, 12, 1)
        self.pointwise_norm = nn.BatchNorm2d(12)
        self.left = nn.Conv2d(12, 8, 3, padding=2, dilation=2)
        self.right = nn.Conv2d(12, 8, (1, 3), padding=(0, 1), groups=2)
        self.dropout = nn.Dropout(0.1)
        self.twice = nn.Conv2d(16, 16, 3, padding=1)
        self.after = nn.BatchNorm2d(16)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc1 = nn.Linear(64, 24)
        self.fc2 = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.relu(self.depthwise_norm(self.depthwise(x)))
        x = torch.relu(self.pointwise_norm(self.pointwise(y)) + x)
        x = torch.cat([F.max_pool2d(F.relu(self.left(x)), 2), F.avg_pool2d(self.right(x).relu(), 2)], dim=1)
        x = self.dropout(F.relu(self.twice(x)))
        x = F.relu(self.after(self.twice(x) + x))
        x = self.pool(x).flatten(1)
        return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)
