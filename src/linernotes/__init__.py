"""linernotes: which training tracks shaped a piece of generated music, and whether retraining agrees.

>>> import linernotes
>>> clip = linernotes.generate("a reel in D major for violin, fast, 2/2 time", "clip.flac", seed=1)
>>> (attribution,) = linernotes.attribute(clip, "out")
>>> attribution.tracks[0].title
"""

from typing import TYPE_CHECKING, Any

from linernotes.settings.places import settle_libraries
from linernotes.version import __version__

settle_libraries()  # before any of them is imported

if TYPE_CHECKING:
    from linernotes.api import (
        Workspace,
        attribute,
        audit,
        bench,
        build_bank,
        build_catalogue,
        calibrate,
        check_rights,
        compare,
        credit,
        draw_page,
        evaluate_counterfactual,
        evaluate_groups,
        evaluate_hubs,
        evaluate_lds,
        evaluate_planted,
        evaluate_repeatability,
        generate,
        list_methods,
        load_model,
        model_fidelity,
        new_key,
        open,
        open_bank,
        open_catalogue,
        plan,
        rebuild,
        render_builtin,
        run_demo,
        self_influence,
        sweep,
        train_model,
        verify,
        write_leaderboard,
        write_statement,
    )

__all__ = [
    "Workspace",
    "__version__",
    "attribute",
    "audit",
    "bench",
    "build_bank",
    "build_catalogue",
    "calibrate",
    "check_rights",
    "compare",
    "credit",
    "draw_page",
    "evaluate_counterfactual",
    "evaluate_groups",
    "evaluate_hubs",
    "evaluate_lds",
    "evaluate_planted",
    "evaluate_repeatability",
    "generate",
    "list_methods",
    "load_model",
    "model_fidelity",
    "new_key",
    "open",
    "open_bank",
    "open_catalogue",
    "plan",
    "rebuild",
    "render_builtin",
    "run_demo",
    "self_influence",
    "sweep",
    "train_model",
    "verify",
    "write_leaderboard",
    "write_statement",
]


def __getattr__(name: str) -> Any:
    """The names of ``linernotes.api``, imported when first used: torch and diffusers take seconds to load."""
    if name in __all__:
        from linernotes import api

        return getattr(api, name)
    raise AttributeError(f"module 'linernotes' has no attribute {name!r}")
