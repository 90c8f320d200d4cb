"""What the installer decides before it installs."""

import quickstart

REQUIREMENTS = """\
comfyui-frontend-package==1.27.10
torch
torchaudio
numpy>=1.25.0
torchsde

#non essential dependencies:
pydantic~=2.0  # settings
"""


def test_comfyuis_requirements_are_taken_and_what_it_does_not_list():
    assert quickstart.requirements_to_install(REQUIREMENTS) == [
        "comfyui-frontend-package==1.27.10", "torch", "torchaudio", "numpy>=1.25.0", "torchsde",
        "pydantic~=2.0", "requests",
    ]  # fmt: skip


def test_what_is_installed_is_named_with_its_version():
    import importlib.metadata

    assert quickstart.installed(("numpy",)) == [f"numpy=={importlib.metadata.version('numpy')}"]
    assert quickstart.installed(("no-such-package",)) == []


def test_comfyui_is_looked_for_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert quickstart.find_comfyui() is None
    (tmp_path / "main.py").touch()
    (tmp_path / "comfy").mkdir()
    assert quickstart.find_comfyui() == tmp_path


def test_a_failed_installation_says_what_to_do_next():
    for line, advice in (
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("Connection timed out", "could not be reached"),
        ("error: no such option", "report the lines above"),
    ):
        assert advice in quickstart.explain(["Collecting x", line])


def test_without_comfyui_nothing_is_installed_and_the_tests_are_said_to_skip(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setattr(quickstart, "COMFYUI_STAMP", tmp_path / "stamp")
    quickstart.install_comfyui_requirements()
    assert "are skipped" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
