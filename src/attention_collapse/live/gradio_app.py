"""The live page as a Gradio application: a picture, a caption, a button, and the page of the pair in a frame.

Gradio is an extra, imported where it is used. The frame runs its own scripts alone, without the application's origin.
"""

from __future__ import annotations

import sys
import traceback
from html import escape
from ipaddress import ip_address
from typing import Any

from attention_collapse import arguments
from attention_collapse.errors import AttentionCollapseError, ParamsError, PipelineError
from attention_collapse.explain import explain
from attention_collapse.extras import require
from attention_collapse.live.looker import LARGEST, LONGEST, Looker
from attention_collapse.progress import told

TITLE = "A picture and a caption of yours"
# Gradio's subdued text, such as a file's name while it is sent, has a contrast of 1.9 on light.
STYLE = "<style>body:not(.dark), body:not(.dark) .gradio-container { --body-text-color-subdued: #595959 }</style>"
HOST, PORT = "127.0.0.1", 7860
HEIGHT = 1500  # pixels of the frame: all of a small model's pair
WAITING = 16  # requests that wait for the one that runs; the next is told that the queue is full
SWEEP, KEPT = 300, 600  # seconds: how often uploads are looked through, and after how many they are deleted


def demo(model: Any, pairs: Any = None, *, t_shap: bool = False, **options: Any) -> Any:
    """The application, for a server of one's own or a Hugging Face Space: `demo("NAME").launch()`.

    Parameters
    ----------
    model, pairs, options
        As of `Looker.of`: the model is loaded here, once.
    t_shap
        Whether the box "what each word and image cell adds" is ticked at first.

    Returns
    -------
    gradio.Blocks
        One request runs at a time. It asks nothing of other servers.

    Raises
    ------
    AttentionCollapseError
        Gradio is not installed; or what `Looker.of` raises.
    """
    _gradio()
    return blocks(Looker.of(model, pairs, **options), t_shap=arguments.flag("t_shap", t_shap))


def serve(
    model: Any, pairs: Any = None, *, host: str = HOST, port: int = PORT, t_shap: bool = False, block: bool = True,
    **options: Any,
) -> Any:  # fmt: skip
    """Serve the live page until interrupted; on this machine alone, unless another address is asked for.

    Parameters
    ----------
    model, pairs, t_shap, options
        As of `demo`.
    host, port
        The address that is listened on. One beyond this machine's own is warned of on standard error.
    block
        Return at once if False; the application that is returned ends by its `close()`.

    Raises
    ------
    AttentionCollapseError
        As of `demo`; or the port is taken.
    """
    port = arguments.whole("port", port, least=1, below=65536)
    if not isinstance(host, str) or not host.strip():
        raise ParamsError(f"host is {arguments.shown(host)}", expected="an address such as 127.0.0.1", remedy="name it")
    _gradio()
    with told(True):
        app = demo(model, pairs, t_shap=t_shap, **options)
    if not is_loopback(host):
        print(
            f"warning: {host} is not this machine's own address. Whoever reaches port {port} can send pictures to the "
            "model and has it compute; there is no password.",
            file=sys.stderr,
        )
    try:
        _, address, _ = launch(app, host, port)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"{host}:{port} cannot be served ({' '.join(str(error).split())})",
            expected="an address of this machine, and a port that nobody listens on",
            remedy="give another --port, or another --host",
        ) from None
    print(f"{address} shows the live page; Ctrl+C ends it", flush=True)
    if block:
        app.block_thread()
    return app


def launch(app: Any, host: str, port: int) -> Any:
    """Start the server with nothing that would reach beyond it: no share link, no monitor, no rendering by Node."""
    return app.launch(
        server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True, inbrowser=False,
        show_error=False, max_file_size=LARGEST, ssr_mode=False, enable_monitoring=False, mcp_server=False, pwa=False,
        footer_links=[],
    )  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone; names other than localhost do not count."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def blocks(looker: Looker, *, t_shap: bool) -> Any:
    """The application of a model that is loaded."""
    gradio = _gradio()
    with gradio.Blocks(title=f"{TITLE}: {looker.name}", analytics_enabled=False, delete_cache=(SWEEP, KEPT)) as app:
        gradio.HTML(f"{STYLE}<h1>{TITLE}</h1><p>{escape(_introduction(looker))}</p>")
        with gradio.Row():
            picture = gradio.File(label=f"Picture, at most {LARGEST // 2**20} MiB", type="filepath", height=160)
            with gradio.Column():
                caption = gradio.Textbox(label="Caption", max_length=LONGEST, lines=2, submit_btn=False)
                tokens = gradio.Checkbox(t_shap, label="also what each word and image cell adds to the score (slow)")
                button = gradio.Button("Look")
        result = gradio.HTML(label="The pair")

        def look(picture: str | None, caption: str, contributions: bool) -> str:
            """The page of the pair, in a frame; or what is wrong with it."""
            return shown(looker, picture, caption, contributions=contributions)

        button.click(look, [picture, caption, tokens], result, api_name="look", concurrency_limit=1)
    return app.queue(max_size=WAITING, default_concurrency_limit=1)


def shown(looker: Looker, picture: str | None, caption: str, *, contributions: bool) -> str:
    """The page of a pair in its frame; or what was wrong, as text that is escaped."""
    try:
        return looker.page(picture, caption, t_shap=bool(contributions)).frame(HEIGHT)
    except Exception as error:
        found = explain(error)
        if found is None:  # a fault of the program's own: its details are for whoever runs the server
            traceback.print_exc()
            found = AttentionCollapseError(
                f"the model failed on this pair ({type(error).__name__})", expected="a page",
                remedy="try another picture or caption; whoever runs the server finds the details on its terminal",
            )  # fmt: skip
    parts = (found.got, f"Expected: {found.expected}.", f"What to do: {found.remedy}.")
    named = (part.replace(looker.model.name, looker.name) for part in parts)
    lines = "".join(f"<div>{escape(part)}</div>" for part in named)
    return f'<div role="alert" style="border-left:5px solid #b34700;padding:8px 14px">{lines}</div>'


def _introduction(looker: Looker) -> str:
    swaps = (
        f"{len(looker.others)} pairs of {looker.where} can be swapped in."
        if looker.others
        else "No other pairs were named, so no other image and no other caption can be swapped in."
    )
    return (
        f"Choose a picture and write a caption: see where the model looks, and how its score moves. {swaps} "
        f"Uploads are deleted after {KEPT // 60} to {(KEPT + SWEEP) // 60} minutes."
    )


def _gradio() -> Any:
    require("explore")
    import gradio

    return gradio
