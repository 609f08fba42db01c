"""PyTorch, eager, with the fused Adam."""

import torch
from shapes import BETA1, BETA2, EPSILON, LEARNING_RATE, Problem
from torch import nn

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Peer:
    version = torch.__version__

    def __init__(self, problem: Problem, threads: int) -> None:
        torch.set_num_threads(threads)
        layers: list[nn.Module] = []
        for weight, bias in zip(problem.weights, problem.biases, strict=True):
            linear = nn.Linear(*weight.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(weight.T))
                linear.bias.copy_(torch.from_numpy(bias))
            layers += [linear, _ACTIVATIONS[problem.shape.activation]()]
        self.net = nn.Sequential(*layers[:-1])
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(
            self.net.parameters(), lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=True
        )
        self.batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in problem.batches()]

    def run(self, steps: int) -> None:
        n = len(self.batches)
        for i in range(steps):
            x, y = self.batches[i % n]
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.criterion(self.net(x), y)
            loss.backward()
            self.optimizer.step()

    def loss(self) -> float:
        x, y = self.batches[-1]
        with torch.no_grad():
            return self.criterion(self.net(x), y).item()
