# SPDX-License-Identifier: Apache-2.0
"""Opens the report in headless Chromium and uses it as a person would: sorts, filters, hovers, zooms, on a desktop and on
a phone, light and dark. $SPILLWAY_PAGE_WRITER is the program that writes the pages. Exit 77: no browser here (an error
with $SPILLWAY_NEED_ALL_TESTS)."""

import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from devtools import Browser, find_browser  # noqa: E402

PAGES = None    # folder with the pages
BROWSER = None  # one for all tests


def column_text(browser, head):
    """Cells in sight of the tensor table's column, top to bottom."""
    return browser.evaluate(f"""(() => {{
        const heads = [...document.querySelectorAll('#tensor-table thead th')].map((cell) => cell.textContent);
        const index = heads.indexOf({head!r});
        return [...document.querySelectorAll('#tensor-table tbody tr.row')].map((row) => row.cells[index].textContent);
    }})()""")


def as_bytes(text):
    figure, unit = text.split("\u00a0")
    return float(figure) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)


class ReportTest(unittest.TestCase):
    def open(self, name, width=1400, height=1000, scheme="light"):
        BROWSER.resize(width, height, phone=width < 600)
        BROWSER.color_scheme(scheme)
        self.url = f"file://{PAGES}/{name}"
        BROWSER.open(self.url)
        BROWSER.settle()
        self.assertEqual(BROWSER.evaluate("document.documentElement.dataset.ready"), "yes", BROWSER.errors)

    def tearDown(self):
        self.assertEqual(BROWSER.errors, [], "the page reported errors")
        outside = [url for url in BROWSER.requests if url != self.url and not url.startswith("data:")]
        self.assertEqual(outside, [], "the page asked for something outside of itself")
        self.assertIsNone(BROWSER.evaluate("window.broken ?? null"), "a name was run as a script")

    def click(self, selector):
        box = BROWSER.evaluate(f"""(() => {{
            const node = document.querySelector({selector!r});
            node.scrollIntoView({{block: 'center', behavior: 'instant'}});
            const box = node.getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2];
        }})()""")
        BROWSER.click(*box)
        BROWSER.settle()

    def canvas(self, name):
        """Box of a canvas after it was scrolled into sight."""
        return BROWSER.evaluate(f"""(() => {{
            const node = document.getElementById({name!r});
            node.scrollIntoView({{block: 'center', behavior: 'instant'}});
            const box = node.getBoundingClientRect();
            return {{left: box.left, top: box.top, width: box.width, height: box.height}};
        }})()""")

    def hover(self, name, across, down):
        box = self.canvas(name)
        BROWSER.mouse("mouseMoved", x=box["left"] + across * box["width"], y=box["top"] + down * box["height"])
        BROWSER.settle()
        return BROWSER.evaluate("(() => { const tip = document.getElementById('tooltip'); return tip.hidden ? null : tip.innerText; })()")

    def ink(self, name):
        """How many different colours a canvas shows on a coarse grid."""
        return BROWSER.evaluate(f"""(() => {{
            const canvas = document.getElementById({name!r});
            const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            const seen = new Set();
            for (let i = 0; i < pixels.length; i += 4 * 7) if (pixels[i + 3] > 0) seen.add((pixels[i] << 16) | (pixels[i + 1] << 8) | pixels[i + 2]);
            return seen.size;
        }})()""")

    def test_charts_are_drawn(self):
        self.open("plan.html")
        for name in ["memory-chart", "lanes-chart", "heat-chart", "stalls-chart"]:
            with self.subTest(name):
                self.assertGreater(self.ink(name), 4)
        self.assertGreater(BROWSER.evaluate("document.querySelectorAll('#tradeoff-chart .dot').length"), 8)
        self.assertEqual(BROWSER.evaluate("document.querySelectorAll('#policy-table tbody tr').length"), 6)
        self.assertIn("infeasible, needs", BROWSER.evaluate("document.querySelector('#policy-table').innerText"))
        self.assertIn("predicted", BROWSER.evaluate("document.getElementById('predicted').innerText"))

    def test_a_click_on_a_head_sorts_and_a_second_one_turns_round(self):
        self.open("plan.html")
        sizes = [as_bytes(cell) for cell in column_text(BROWSER, "Bytes")]
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.click("#tensor-table [data-sort=bytes]")
        sizes = [as_bytes(cell) for cell in column_text(BROWSER, "Bytes")]
        self.assertEqual(sizes, sorted(sizes))
        self.assertEqual(BROWSER.evaluate("document.querySelector('#tensor-table [aria-sort]').getAttribute('aria-sort')"), "ascending")
        self.click("#tensor-table [data-sort=layer]")
        layers = [int(cell) for cell in column_text(BROWSER, "Layer")]
        self.assertGreater(len(layers), 10)
        self.assertEqual(layers, sorted(layers))
        self.click("#tensor-table [data-sort=layer]")
        layers = [int(cell) for cell in column_text(BROWSER, "Layer")]
        self.assertEqual(layers, sorted(layers, reverse=True))
        self.assertEqual(layers[0], 11)
        self.assertEqual(BROWSER.evaluate("document.querySelectorAll('#tensor-table [aria-sort]').length"), 1)

    def test_every_column_sorts(self):
        self.open("plan.html")
        keys = BROWSER.evaluate("[...document.querySelectorAll('#tensor-table [data-sort]')].map((button) => button.dataset.sort)")
        self.assertGreaterEqual(set(keys), {"name", "kind", "layer", "dtype", "bytes", "action", "first", "last", "evicted", "back", "host", "line"})
        for key in keys:
            with self.subTest(key):
                BROWSER.evaluate(f"document.querySelector('#tensor-table [data-sort={key}]').click()")
                first = BROWSER.evaluate("document.querySelector('#tensor-table tbody').innerText")
                BROWSER.evaluate(f"document.querySelector('#tensor-table [data-sort={key}]').click()")
                self.assertNotEqual(first, BROWSER.evaluate("document.querySelector('#tensor-table tbody').innerText"))

    def test_the_filter_takes_text_typed_into_it(self):
        self.open("plan.html")
        self.click("#tensor-filter")
        BROWSER.call("Input.insertText", text="ATTENTION fp32")
        BROWSER.settle()
        names = column_text(BROWSER, "Name")
        self.assertEqual(len(names), 12)
        self.assertTrue(all(".attention" in name for name in names))
        self.assertIn("12 of 84", BROWSER.evaluate("document.getElementById('tensor-count').innerText"))
        BROWSER.call("Input.insertText", text=" nothing has this")
        BROWSER.settle()
        self.assertIn("No tensor matches", BROWSER.evaluate("document.querySelector('#tensor-table tbody').innerText"))

    def test_the_action_filter_narrows_to_one_action(self):
        self.open("plan.html")
        BROWSER.evaluate("""(() => {
            const select = document.getElementById('tensor-action');
            select.value = [...select.options].find((option) => option.textContent === 'offload').value;
            select.dispatchEvent(new Event('change'));
        })()""")
        actions = column_text(BROWSER, "Action")
        self.assertGreater(len(actions), 5)
        self.assertEqual(set(actions), {"offload"})
        self.assertTrue(all(column_text(BROWSER, "On host")))

    def test_a_row_opens_the_tensors_stack(self):
        self.open("plan.html")
        self.click("#tensor-table tbody tr.row td:nth-child(2)")
        detail = BROWSER.evaluate("document.getElementById('tensor-detail').innerText")
        self.assertIn("layers.py:", detail)
        self.assertIn("train.py:120 main", detail)
        self.click("#tensor-detail button")
        self.assertTrue(BROWSER.evaluate("document.getElementById('tensor-detail').hidden"))

    def test_hovering_shows_what_is_under_the_mouse(self):
        self.open("plan.html")
        tip = self.hover("memory-chart", 0.5, 0.5)
        for words in ["ms", "on the device", "activation", "keep-all", "GiB"]:
            self.assertIn(words, tip)
        self.assertIn("layer", self.hover("heat-chart", 0.3, 0.2))
        BROWSER.mouse("mouseMoved", x=2, y=2)
        BROWSER.settle()
        self.assertTrue(BROWSER.evaluate("document.getElementById('tooltip').hidden"))

    def test_hovering_a_lane_names_the_op(self):
        self.open("plan.html")
        height = self.canvas("lanes-chart")["height"]
        tip = self.hover("lanes-chart", 0.6, (2 * 27 + 12) / height)  # third row: compute
        self.assertRegex(tip, "norm|qkv|attention|mlp")
        self.assertRegex(tip, "backward|recompute|codec")

    def test_the_stack_can_go_by_residency(self):
        self.open("plan.html")
        legend = BROWSER.evaluate("document.getElementById('memory-legend').innerText")
        self.assertIn("optimizer", legend)
        self.click("#by-place")
        legend = BROWSER.evaluate("document.getElementById('memory-legend').innerText")
        for words in ["resident", "compressed", "offloading", "prefetching", "on the host"]:
            self.assertIn(words, legend)
        self.assertIn("on the host", self.hover("memory-chart", 0.5, 0.5))
        self.assertEqual(BROWSER.evaluate("document.getElementById('by-place').getAttribute('aria-pressed')"), "true")

    def test_dragging_zooms_and_reset_shows_all_again(self):
        self.open("plan.html")
        whole = self.hover("memory-chart", 0.5, 0.5)
        box = self.canvas("memory-chart")
        y = box["top"] + box["height"] / 2
        x = [box["left"] + part * box["width"] for part in (0.3, 0.35, 0.4)]
        BROWSER.mouse("mousePressed", x=x[0], y=y, button="left", buttons=1, clickCount=1)
        BROWSER.mouse("mouseMoved", x=x[1], y=y, button="left", buttons=1)
        BROWSER.mouse("mouseMoved", x=x[2], y=y, button="left", buttons=1)
        BROWSER.mouse("mouseReleased", x=x[2], y=y, button="left", buttons=0, clickCount=1)
        BROWSER.settle()
        self.assertFalse(BROWSER.evaluate("document.getElementById('reset-zoom').disabled"))
        self.assertNotEqual(self.hover("memory-chart", 0.5, 0.5).splitlines()[0], whole.splitlines()[0])
        self.click("#reset-zoom")
        self.assertTrue(BROWSER.evaluate("document.getElementById('reset-zoom').disabled"))
        self.assertEqual(self.hover("memory-chart", 0.5, 0.5), whole)

    def test_the_keyboard_reaches_the_charts(self):
        self.open("plan.html")
        BROWSER.evaluate("document.getElementById('memory-chart').focus()")
        BROWSER.press("ArrowRight")
        BROWSER.settle()
        first = BROWSER.evaluate("document.getElementById('tooltip').innerText")
        self.assertIn("on the device", first)
        BROWSER.press("ArrowRight")
        BROWSER.settle()
        self.assertNotEqual(first, BROWSER.evaluate("document.getElementById('tooltip').innerText"))
        BROWSER.press("+", code="Equal", text="+")
        BROWSER.settle()
        self.assertFalse(BROWSER.evaluate("document.getElementById('reset-zoom').disabled"))
        BROWSER.press("Escape")
        BROWSER.settle()
        self.assertTrue(BROWSER.evaluate("document.getElementById('reset-zoom').disabled"))
        labels = BROWSER.evaluate("[...document.querySelectorAll('canvas')].map((node) => node.getAttribute('aria-label') || '')")
        self.assertTrue(all(labels), labels)

    def test_nothing_is_wider_than_a_phone(self):
        for page in ["plan.html", "no_plan.html", "large.html", "arena.html"]:
            for width in [390, 320]:
                with self.subTest(f"{page} at {width}"):
                    self.open(page, width=width, height=844)
                    self.assertLessEqual(BROWSER.evaluate("document.documentElement.scrollWidth"), width)
                    wide = BROWSER.evaluate("""[...document.querySelectorAll('body *')].filter((node) =>
                        node.getBoundingClientRect().right > innerWidth + 1 && !node.closest('.scroll, .sections, .skip, .tooltip'))
                        .map((node) => node.outerHTML.slice(0, 90))""")
                    self.assertEqual(wide, [])
        self.open("plan.html", width=390, height=844)
        self.assertGreater(self.ink("memory-chart"), 4)

    def test_the_dark_scheme_redraws_the_charts(self):
        self.open("plan.html", scheme="dark")
        dark = BROWSER.evaluate("document.getElementById('memory-chart').toDataURL()")
        self.assertGreater(self.ink("memory-chart"), 4)
        background = BROWSER.evaluate("getComputedStyle(document.body).backgroundColor")
        BROWSER.color_scheme("light")
        BROWSER.settle()
        self.assertNotEqual(background, BROWSER.evaluate("getComputedStyle(document.body).backgroundColor"))
        self.assertNotEqual(dark, BROWSER.evaluate("document.getElementById('memory-chart').toDataURL()"))

    def test_a_page_without_a_plan_says_what_is_missing(self):
        self.open("no_plan.html")
        verdict = BROWSER.evaluate("document.getElementById('verdict').innerText")
        self.assertIn("No plan of every-k fits 512", verdict)
        self.assertIn("smallest budget", verdict)
        self.assertIn("optimizer", BROWSER.evaluate("document.getElementById('bars').innerText"))
        self.assertGreater(self.ink("memory-chart"), 4)
        self.assertTrue(BROWSER.evaluate("document.getElementById('by-place').disabled"))

    def test_the_arena_page_shows_each_allocator(self):
        self.open("arena.html")
        for name in ["fragmentation-chart", "map-chart"]:
            self.assertGreater(self.ink(name), 4)
        self.assertEqual(BROWSER.evaluate("document.querySelectorAll('#allocator-table tbody tr').length"), 3)
        pytorch = BROWSER.evaluate("document.getElementById('map-chart').toDataURL()")
        tip = self.hover("fragmentation-chart", 0.5, 0.5)
        for words in ["held", "alive", "largest hole", "backward"]:
            self.assertIn(words, tip)
        self.assertRegex(self.hover("map-chart", 0.6, 0.8), "activation|gradient|workspace|free|not held|other")
        self.click("#choose-run button:nth-child(2)")
        self.assertIn("best-fit", BROWSER.evaluate("document.getElementById('map-lead').innerText"))
        self.assertNotEqual(pytorch, BROWSER.evaluate("document.getElementById('map-chart').toDataURL()"))
        self.assertTrue(BROWSER.evaluate("document.getElementById('out-of-memory').hidden"))
        self.click("#choose-run button:nth-child(3)")
        self.assertIn("out of memory", BROWSER.evaluate("document.getElementById('out-of-memory').innerText"))

    def test_the_arena_page_zooms(self):
        self.open("arena.html")
        BROWSER.evaluate("document.getElementById('map-chart').focus()")
        BROWSER.press("+", code="Equal", text="+")
        BROWSER.settle()
        self.assertFalse(BROWSER.evaluate("document.getElementById('reset-zoom').disabled"))
        self.click("#reset-zoom")
        self.assertTrue(BROWSER.evaluate("document.getElementById('reset-zoom').disabled"))

    def test_a_long_table_keeps_few_rows_in_the_page_and_scrolls_to_its_end(self):
        self.open("large.html")
        self.assertIn("tensors", BROWSER.evaluate("document.getElementById('tensor-count').innerText"))
        self.assertLess(BROWSER.evaluate("document.querySelectorAll('#tensor-table tbody tr').length"), 120)
        self.click("#tensor-table [data-sort=bytes]")
        first = column_text(BROWSER, "Name")[0]
        BROWSER.evaluate("(() => { const box = document.getElementById('tensor-scroll'); box.scrollTop = box.scrollHeight; })()")
        BROWSER.settle()
        rows = column_text(BROWSER, "Bytes")
        self.assertEqual(as_bytes(rows[-1]), 112 * 1024 ** 2)
        self.assertNotEqual(column_text(BROWSER, "Name")[0], first)
        self.assertLess(BROWSER.evaluate("document.querySelectorAll('#tensor-table tbody tr').length"), 120)


def main():
    global BROWSER, PAGES
    path = find_browser()
    if path is None:
        print("skipped: needs chromium")
        return 1 if os.environ.get("SPILLWAY_NEED_ALL_TESTS") else 77
    with tempfile.TemporaryDirectory(prefix="spillway-pages-") as folder:
        PAGES = folder
        subprocess.run([os.environ["SPILLWAY_PAGE_WRITER"], folder], check=True)
        with Browser(path) as BROWSER:
            program = unittest.main(argv=[sys.argv[0], *sys.argv[1:]], exit=False, verbosity=2)
    return 0 if program.result.wasSuccessful() and program.result.testsRun > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
