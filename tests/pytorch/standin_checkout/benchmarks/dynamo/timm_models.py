"""A stand-in for timm's script, which cannot be imported; started, it runs."""

from common import main

if __name__ != "__main__":
    raise ImportError("No module named 'timm'\nin two lines")

main(["inception_v3", "resnet26", "vit_base"])
