"""One RepAdapter training step in PyTorch, eager and float32, for context beside `edge-vit-tools bench train`.

Same work as the trainer's: frozen backbone, adapters before qkv and fc1, class-token head, cross-entropy, AdamW.
    python tests/peers/torch_step.py [--device cpu|cuda] [--side 112] [--batch 32] [--steps 7] [--arch NAME]
"""

import argparse
import resource
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
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--arch", default="vit_small_patch14_dinov2")
    args = parser.parse_args()
    model = timm.create_model(
        args.arch, pretrained=False, img_size=args.side, num_classes=10, drop_path_rate=0.1
    )
    model.requires_grad_(False)
    for block in model.blocks:
        block.norm1 = nn.Sequential(block.norm1, RepAdapter(model.embed_dim))
        block.norm2 = nn.Sequential(block.norm2, RepAdapter(model.embed_dim))
    model.head.requires_grad_(True)
    model.to(args.device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=1e-4)
    pictures = torch.randn(args.batch, 3, args.side, args.side)
    labels = torch.randint(0, 10, (args.batch,))
    on_gpu = args.device.startswith("cuda")
    model.train()
    seconds = []
    for _ in range(args.steps + 1):
        start = time.perf_counter()
        # The pictures travel in every step, as they do for the trainer.
        logits = model(pictures.to(args.device))
        loss = nn.functional.cross_entropy(logits, labels.to(args.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    step = min(seconds[1:])
    where = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} threads"
    if on_gpu:
        peak = f"peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB on the device, weights included"
    else:
        peak = f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    print(f"torch {torch.__version__}, {where}, {args.arch}, {sum(p.numel() for p in trained)} trained parameters")
    print(f"batch {args.batch}, {args.side}x{args.side}: {1e3 * step:.2f} ms, the fastest of {args.steps}, {args.batch / step:.1f} img/s, {peak}")


if __name__ == "__main__":
    main()
