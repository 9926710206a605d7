"""One RepAdapter training step of DINOv2-S/14 in PyTorch on this CPU, for context beside `cpu_step`.

Same work as the trainer's: frozen backbone, adapters before qkv and fc1, class-token head, cross-entropy, AdamW.
    python tests/peers/torch_step.py [--side 112] [--batch 32] [--steps 7]
"""

import argparse
import resource
import statistics
import time

import timm
import torch
from torch import nn


class RepAdapter(nn.Module):
    def __init__(self, dim, hidden=8, groups=2, scale=1.0):
        super().__init__()
        self.a = nn.Conv1d(dim, hidden, 1)
        self.b = nn.Conv1d(hidden, dim, 1, groups=groups)
        self.dropout = nn.Dropout(0.1)
        self.scale = scale

    def forward(self, x):
        y = x.transpose(1, 2)
        return (y + self.scale * self.b(self.dropout(self.a(y)))).transpose(1, 2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=7)
    args = parser.parse_args()
    model = timm.create_model(
        "vit_small_patch14_dinov2", pretrained=False, img_size=args.side, num_classes=10, drop_path_rate=0.1
    )
    model.requires_grad_(False)
    for block in model.blocks:
        block.norm1 = nn.Sequential(block.norm1, RepAdapter(384))
        block.norm2 = nn.Sequential(block.norm2, RepAdapter(384))
    model.head.requires_grad_(True)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=1e-4)
    pictures = torch.randn(args.batch, 3, args.side, args.side)
    labels = torch.randint(0, 10, (args.batch,))
    model.train()
    seconds = []
    for _ in range(args.steps + 1):
        start = time.perf_counter()
        loss = nn.functional.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {sum(p.numel() for p in trained)} trained parameters")
    print(f"batch {args.batch}, {args.side}x{args.side}: {step:.3f} s a step, {args.batch / step:.1f} img/s, peak RSS {peak:.0f} MiB")


if __name__ == "__main__":
    main()
