"""The live page as a Hugging Face Space: `MODEL` and `PAIRS` are variables of the Space."""

import os

from attention_collapse.live import demo
from attention_collapse.live.looker import LARGEST

app = demo(os.environ.get("MODEL", "openai/clip-vit-base-patch32"), os.environ.get("PAIRS"))

if __name__ == "__main__":
    app.launch(max_file_size=LARGEST, ssr_mode=False, footer_links=[])
