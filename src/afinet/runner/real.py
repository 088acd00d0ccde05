"""The host's own C modules, as they are before any stand-in takes their place.

Imported before stdlib/install.py does anything: whoever must reach the real clock, thread or lock takes it from here.
"""

import _socket as _socket
import _thread as _thread
import os as os
import select as select
import time as time
