"""Examples of each command, which its help shows, and the layout of help.

The examples of a command follow each other: `fastrdm sample study` writes the files that most of the others read.
"""

import argparse
from collections.abc import Mapping

#: Examples of each command. Tests parse all of them, and run those whose files the sample has.
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "score": (
        "fastrdm score study/network.onnx --data study",
        "fastrdm score resnet18.pth --arch torchvision.models:resnet18 --data study --csv scores.csv",
    ),
    "sweep": (
        "fastrdm sweep study/*.onnx --data study --store scores.db --keep-rdms",
        r"fastrdm sweep runs --arch models.networks:resnet20 --data study --store r.db --labels 'epoch(?P<epoch>\d+)'",
    ),
    "table": (
        "fastrdm table scores.db --best",
        "fastrdm table scores.db --regions it --where 'percent_nc > 10' --output scores.csv",
    ),
    "plot": (
        "fastrdm plot scores.db --kind layers -o layers.pdf",
        "fastrdm plot scores.db --kind figure4 --sets sample -o figure4.png",
    ),
    "report": ("fastrdm report scores.db --data study --output report.html",),
    "merge": ("fastrdm merge all.db scores.db",),
    "label": (r"fastrdm label scores.db --labels '(?P<network>\w+)\.onnx'",),
    "check": ("fastrdm check study --output check.html",),
    "evaluate": ("fastrdm evaluate submit_fmri.mat target_fmri.mat --set none",),
    "export": ("fastrdm export resnet18.pth resnet18.onnx --arch torchvision.models:resnet18",),
    "layers": (
        "fastrdm layers study/network.onnx --match '*conv*'",
        "fastrdm layers --arch torchvision.models:resnet18",
    ),
    "fetch": (
        "fastrdm fetch nsd-shared",
        "fastrdm fetch algonauts2019 --base-url file:///home/me/Downloads --accept-licence",
    ),
    "sample": ("fastrdm sample study",),
    "doctor": ("fastrdm doctor", "fastrdm doctor --json"),
    "selftest": ("fastrdm selftest",),
    "completion": (
        'eval "$(fastrdm completion bash)"  # a line of ~/.bashrc',
        'eval "$(fastrdm completion zsh)"  # a line of ~/.zshrc, after compinit',
        "fastrdm completion fish > ~/.config/fish/completions/fastrdm.fish",
    ),
}

_FIRST_STEPS = """
examples:
  fastrdm sample study
  fastrdm score study/network.onnx --data study

`fastrdm COMMAND --help` describes a command and shows examples.

exit status:
  0      done
  1      failed, in full or in part; standard error names what failed
  2      the command line is wrong; standard error names the argument
  128+N  stopped by signal N: 130 by Ctrl-C, 141 if the reader of the output closed the pipe"""


class HelpFormatter(argparse.HelpFormatter):
    """Help with the lines of examples as they are written; paragraphs are filled as usual."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("\n"):
            return text.strip("\n")
        return super()._fill_text(text, width, indent)


def epilog_of(command: str) -> str:
    """Return the examples of a command, as the end of its help."""
    lines = EXAMPLES[command]
    title = "\nexample:" if len(lines) == 1 else "\nexamples:"
    return "\n".join([title, *(f"  {line}" for line in lines)])


def first_steps() -> str:
    """Return the end of the help without a command: first steps, and the exit status."""
    return _FIRST_STEPS
