"""Laws of recipes."""

from pathlib import Path

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.training.recipe import RECIPES, read_recipe


def test_the_reference_configuration_is_the_paper_s() -> None:
    recipe = read_recipe("paper")
    assert (recipe.optimiser, recipe.peak_learning_rate) == ("adam", 0.05)
    assert (recipe.schedule, recipe.decay) == ("exponential", 0.98)
    assert (recipe.kernel_down, recipe.kernel_up) == (1, 1)
    assert recipe.augmentation == "paper"


@pytest.mark.parametrize("name", [f.stem for f in RECIPES.glob("*.toml")])
def test_every_built_in_recipe_reads(name: str) -> None:
    assert read_recipe(name).n_steps > 0


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"any-head.*paper"):
        read_recipe("soup")


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("feautres = 16\n", encoding="utf-8")
    with pytest.raises(UsageError, match="feautres"):
        read_recipe(str(file))


def test_a_patch_that_cannot_be_halved_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("patch = [112, 112, 100]\n", encoding="utf-8")
    with pytest.raises(UsageError, match="multiples of 16"):
        read_recipe(str(file))


@pytest.mark.parametrize(
    "text",
    [
        "patch = [112, 112]",
        "patch = 112",
        'views = ["oblique"]',
        "near_structures = 1.2",
        "near_structures = -0.1",
    ],
)
def test_what_no_network_could_be_trained_by_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="mine"):
        read_recipe(str(file))
