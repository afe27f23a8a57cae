"""The network and images of `small_training` as the Trainer of transformers takes them."""

import small_training
import torch


class SmallTransformer(torch.nn.Module):
    """A network with the calls of transformers: the loss comes with the logits."""

    def __init__(self):
        super().__init__()
        self.net = small_training.make_network()
        self.taps = {"conv": "net.0", "fc": "net.6"}
        self.preprocessing = self.net.preprocessing

    def forward(self, pixel_values, labels=None):
        logits = self.net(pixel_values)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits} if labels is not None else {"logits": logits}


class LabelledImages(small_training.AugmentedImages):
    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        return {"pixel_values": image, "labels": label}
