"""See attention collapse come while a model is in training: any PyTorch model that scores an image with a text.

`Monitor` is all that a plain loop needs. `attention_collapse.monitor.trainer` has a callback for the Trainer of
transformers, `attention_collapse.monitor.lightning_callback` one for Lightning.
"""

from attention_collapse.monitor.alarm import Alarm
from attention_collapse.monitor.monitor import Monitor
from attention_collapse.monitor.pairs import HeldOut
from attention_collapse.monitor.reading import Rule

__all__ = ["Alarm", "HeldOut", "Monitor", "Rule"]
