"""The device in words, and a card that TensorFlow does not see."""

import stat
from types import SimpleNamespace

import pytest

from data_tools.runtime import graphics_card, processor
from tf_hypoperfusion.model import devices


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine without a card, and nothing hidden."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: [])
    (tmp_path / "bin").mkdir()
    return tmp_path


def smi(bare, text):
    program = bare / "bin/nvidia-smi"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_a_processor_is_named_with_its_cores():
    words = devices.in_words()
    assert words.startswith(processor.in_words()) and "CPU with" in words
    assert words.endswith("sees no GPU")


def test_cards_are_named_by_the_drivers_program(bare):
    smi(bare, "echo 'NVIDIA A100'; echo 'NVIDIA A100'")
    assert graphics_card.nvidia(bare) == ["NVIDIA A100", "NVIDIA A100"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("dev/nvidia0", 1), ("dev/nvidiactl", 0), ("dev/nvidia-uvm", 0)],
)
def test_a_card_without_that_program_shows_in_dev(bare, path, expected):
    (bare / "dev").mkdir()
    (bare / path).touch()
    assert len(graphics_card.nvidia(bare)) == expected


@pytest.mark.parametrize(
    ("vendor", "kind", "expected"),
    [
        ("0x10de", "0x030000", 1),
        ("0x10de", "0x030200", 1),
        ("0x10de", "0x040300", 0),  # its sound
        ("0x1002", "0x030000", 0),  # another maker's
    ],
)
def test_or_among_the_pci_devices(bare, vendor, kind, expected):
    smi(bare, "exit 9")  # its driver is not loaded
    device = bare / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(vendor + "\n")
    (device / "class").write_text(kind + "\n")
    assert len(graphics_card.nvidia(bare)) == expected


def test_a_card_that_is_not_seen_is_said_with_what_to_do(bare, capsys):
    smi(bare, "echo 'NVIDIA H200'")
    devices.announce()
    said = capsys.readouterr()
    assert said.out.startswith("device  CPU")
    assert "WARNING: this machine has NVIDIA H200, but TensorFlow sees no GPU" in said.err
    assert "[gpu]" in said.err


@pytest.mark.parametrize("value", ["-1", ""])
def test_a_card_that_was_hidden_is_not_missed(bare, monkeypatch, value):
    smi(bare, "echo 'NVIDIA H200'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert devices.overlooked() is None


def test_no_card_no_warning(bare, monkeypatch):
    monkeypatch.setattr(graphics_card, "nvidia", lambda: [])
    assert devices.overlooked() is None


def test_gpus_are_named_and_nothing_is_missed(bare, monkeypatch):
    smi(bare, "echo 'NVIDIA H200'")
    config = devices.tf.config
    monkeypatch.setattr(
        config, "list_physical_devices", lambda kind: [SimpleNamespace(name="a")] * 2
    )
    details = {"device_name": "NVIDIA H200"}
    monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: details)
    assert devices.in_words() == "2 GPUs: 2 x NVIDIA H200"
    assert devices.overlooked() is None


def test_windows_is_sent_to_wsl(bare, monkeypatch):
    monkeypatch.setattr(graphics_card, "nvidia", lambda: ["NVIDIA RTX"])
    monkeypatch.setattr(devices.sys, "platform", "win32")
    assert "WSL 2" in (devices.overlooked() or "")
