"""Whether a calibration that is lent to a model holds for it: a bank of that model's says so.

    python dev/lent.py CALIBRATION BANK MODEL CATALOGUE

CALIBRATION is a file that `linernotes calibrate` wrote, or the name of one in the package (readout-long). Its
own curve is held against every clip and retrained model of the bank; nothing is fitted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import linernotes
from linernotes.attribution.effects import Calibration
from linernotes.demo.places import CALIBRATIONS


def main(calibration: str, *bank: str) -> None:
    shipped = CALIBRATIONS / f"{calibration}.json"
    lent = Calibration.load(shipped if shipped.exists() else Path(calibration))
    found = linernotes.calibrate(linernotes.open_bank(*bank), lent.method, lent=lent, **lent.settings)
    print(f"90 % intervals hold {found.coverage} of single tracks' contrasts")
    print(f"{found.named:.1f} tracks a clip lie above nothing, and of their contrasts {found.named_above}")
    print(f"({found.named_above_expected:.2f} would, if each effect were as expected)")


if __name__ == "__main__":
    main(*sys.argv[1:])
