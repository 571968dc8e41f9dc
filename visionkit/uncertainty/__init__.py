"""How far results can be trusted: calibration, prediction sets, bootstrap intervals and paired comparisons."""
