"""A small network with batch norm and dropout, and its preprocessing."""

import torch
from torch import nn

from fastrdm import Preprocessing

PREPARED = Preprocessing((20, 20))


class SmallNetwork(nn.Module):
    """Two convolutions with a batch norm, dropout and a head."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 4)

    def forward(self, images):
        hidden = torch.relu(self.norm(self.conv1(images)))
        hidden = torch.relu(self.conv2(hidden)).mean((2, 3))
        return self.fc(self.dropout(hidden))


def build():
    """A network with the same weights at each call."""
    torch.manual_seed(0)
    return SmallNetwork()
