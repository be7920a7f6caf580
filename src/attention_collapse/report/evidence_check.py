r"""Does every printed number resolve to its line, and is none typed by hand?

A number is a word that begins with a digit; a word that begins with a letter, such as ViT-B/32, CI95 or val2017, is a
name. A number may stand

- in `paper/generated/**/*.tex`, if it is a citation (`\acfile`, `\acdef`, `\acval`);
- in `paper/` otherwise as `\ac{key}` or `\acval`, or as `\given{0.7}`: a definition or a threshold, no result; digits
  of LaTeX itself count for nothing: lengths, options, labels, cite keys, paths, single indices and exponents ($H_0$);
- in `reports/**/*.md` as a citation `[0.740][label]`, or in a code span (`0.7`): a definition, no result. Under the
  heading "Sources", which comes last, stand the run of each file, `- [file](../../file): run `run``, and what the
  labels stand for, `[label]: ../../file#Lline "form key"`, and nothing else.
"""

from __future__ import annotations

from attention_collapse.report.evidence_findings import Findings
from attention_collapse.report.evidence_latex import LatexCheck
from attention_collapse.report.evidence_markdown import MarkdownCheck


class Check(Findings):
    """The check of one working tree; `run` fills it."""

    def run(self) -> Check:
        """Look at the generated LaTeX, the paper's own files and the reports; to find no citation is a failure."""
        LatexCheck(self).run()
        for path in sorted((self.root / "reports").rglob("*.md")):
            MarkdownCheck(self, path).run()
        if not any((self.root / folder).is_dir() for folder in ("paper", "reports")):
            self.at(self.root).fail("neither paper/ nor reports/", "the root of the repository", "run it there")
        elif not self.citations:
            self.at(self.root).fail(
                "no citation in paper/ and reports/",
                "those that the pipeline writes",
                "restore them, or run `dvc repro`",
            )
        return self
