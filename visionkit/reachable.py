"""Whether a server is there: asked once, briefly, since the libraries underneath retry for most of a minute."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

PROBE_SECONDS = 1.5
"""How long a server may take to show that it is there."""


def probe(url: str, seconds: float = PROBE_SECONDS) -> str | None:
    """Asks whether a web server is there, through the system's proxy where one is set.

    Args:
        url: http or https.
        seconds: After which the server counts as unreachable; looking up the name, which has no limit of its own, is
            included.

    Returns:
        None if it responds, otherwise why not.
    """
    if not url.startswith(("http://", "https://")):
        return "no http address"
    prediction: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                prediction.append(None)
        except urllib.error.HTTPError as error:
            # Whoever refuses or does not find is there; a gateway in front of nothing is not.
            prediction.append(None if error.code < 500 else f"HTTP {error.code}")
        except urllib.error.URLError as error:
            prediction.append(getattr(error.reason, "strerror", None) or str(error.reason))
        except (OSError, ValueError) as error:
            prediction.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 0.2)
    return prediction[0] if prediction else f"nothing within {seconds:g} s"
