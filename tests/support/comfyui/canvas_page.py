"""ComfyUI's page in a browser: what a user does there, by the names that a user has for it."""

from __future__ import annotations

import json

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # no dialog of templates over the canvas
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}
PATIENCE = 60_000
"""Milliseconds: on a busy machine the page takes its time."""
NEWER = "Comfy.VueNodes.Enabled"
"""The setting of the newer rendering, in which nodes are HTML."""
ALL = """const all = graph => graph.nodes.flatMap(
    node => [node, ...(node.isSubgraphNode?.() ? all(node.subgraph) : [])]);"""
"""A graph's nodes, and those in its subgraphs."""


class CanvasPage:
    """The page of a server.

    Args:
        browser: Playwright's.
        server: A running ``comfy_server.Server``.
        width: Of the window, in pixels.
        height: Of the window, in pixels.
    """

    def __init__(self, browser, server, width=1920, height=1080):
        self.server = server
        server.post("/settings", SETTINGS)
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(PATIENCE)
        self.page.goto(f"http://127.0.0.1:{server.port}/")
        self.page.wait_for_function("window.app && window.app.extensionManager && window.app.graph")
        # The page opens a graph of its own when it is ready, which would replace an earlier one.
        self.page.wait_for_function("window.app.graph.nodes.length > 0")

    def close(self):
        """Close the page."""
        self.page.close()

    def open(self, graph):
        """Open a graph in the form of the canvas."""
        self.page.evaluate("graph => window.app.loadGraphData(graph)", graph)
        self.page.wait_for_timeout(500)

    def render(self, newer):
        """Take the newer rendering, or the drawn canvas; return False where none is offered."""
        settings = "window.app.ui.settings"
        offered = f"name => ({settings}.settingsLookup[name]?.type ?? 'hidden') !== 'hidden'"
        if not self.page.evaluate(offered, NEWER):
            return not newer
        self.page.evaluate(
            f"([name, on]) => {settings}.setSettingValueAsync(name, on)", [NEWER, newer]
        )
        return True

    def enter(self, title):
        """Open the subgraph of a node; return whether it has one."""
        found = self.page.evaluate(
            """title => {
                const canvas = window.app.canvas;
                const node = canvas.graph.nodes.find(n => n.title === title);
                if (!node.isSubgraphNode?.()) return false;
                canvas.openSubgraph(node.subgraph, node);
                return true;
            }""",
            title,
        )
        self.page.wait_for_timeout(500)
        return found

    def leave(self):
        """Go back to the graph itself."""
        self.page.evaluate("window.app.canvas.setGraph(window.app.graph)")
        self.page.wait_for_timeout(500)

    def drop(self, path):
        """Open a file, as if it had been dropped onto the canvas."""
        before = self.page.evaluate("JSON.stringify(window.app.graph.serialize())")
        self.page.locator("#comfy-file-input").set_input_files(str(path))
        self.page.wait_for_function(
            "before => JSON.stringify(window.app.graph.serialize()) !== before", arg=before
        )
        self.page.wait_for_timeout(500)

    def missing(self):
        """Return how many nodes are of a type that nobody has registered."""
        return self.page.evaluate(
            "() => {"
            + ALL
            + """ return all(window.app.graph).filter(
                node => !(node.type in window.LiteGraph.registered_node_types)
            ).length; }"""
        )

    def dismiss(self):
        """Close whatever dialog is open."""
        self.page.keyboard.press("Escape")
        self.page.wait_for_timeout(500)

    def types(self):
        """Return the types of the graph's nodes and of those in its subgraphs, sorted."""
        found = "() => {" + ALL + " return all(window.app.graph).map(node => node.type); }"
        return sorted(self.page.evaluate(found))

    def change(self, widgets):
        """Set widgets' values: a mapping from a type of node to values by name.

        A widget in a subgraph that is shown on it is set there.
        """
        self.page.evaluate(
            "changes => {"
            + ALL
            + """
                const set = (node, name, value) => (node.widgets ?? []).forEach(
                    widget => { if (widget.name === name) widget.value = value; });
                for (const node of all(window.app.graph)) {
                    for (const [name, value] of Object.entries(changes[node.type] ?? {}))
                        set(node, name, value);
                    for (const input of node.isSubgraphNode?.() ? node.subgraph.inputs : [])
                        for (const id of input.linkIds) {
                            const link = node.subgraph.getLink(id);
                            const target = node.subgraph.getNodeById(link.target_id);
                            const name = target.inputs[link.target_slot].widget?.name;
                            const values = changes[target.type] ?? {};
                            if (name in values) set(node, input.name, values[name]);
                        }
                }
            }""",
            widgets,
        )

    def queue(self):
        """Press Run, and return the number of the run."""
        with self.page.expect_response("**/prompt") as sent:
            # In newer pages the named element is the button, in older ones the group around it.
            named = self.page.get_by_test_id("queue-button")
            inner = named.get_by_role("button")
            (inner if inner.count() else named).first.click()
        answer = json.loads(sent.value.text())
        assert not answer["node_errors"], answer
        return answer["prompt_id"]

    def wait_for_images(self, kind):
        """Wait until a node of this type shows an image."""
        self.page.wait_for_function(
            "kind => window.app.graph.nodes.some(n => n.type === kind && (n.imgs ?? []).length)",
            arg=kind,
        )

    def fit(self):
        """Show the whole graph."""
        self.command("Comfy.Canvas.FitView")
        self.page.wait_for_timeout(1000)

    def command(self, name):
        """Run a command of the page's menu."""
        self.page.evaluate("name => window.app.extensionManager.command.execute(name)", name)

    def help(self, kind):
        """Open the help page of the first node of this type; return its element."""
        self.page.evaluate(
            "kind => { const app = window.app; app.canvas.deselectAll();"
            " app.canvas.selectNode(app.graph.nodes.find(n => n.type === kind)); }",
            kind,
        )
        self.page.get_by_test_id("info-button").click()
        shown = self.page.locator(".node-help-content")
        shown.locator("img").first.wait_for()  # the page is there before its text
        return shown

    def region(self, x, y, width, height, *, margin, above):
        """Return a PNG of a part of the canvas, as large as the window allows.

        Args:
            x: Its left edge on the canvas.
            y: Its upper edge, below a node's title bar.
            width: On the canvas.
            height: On the canvas.
            margin: Added on each side.
            above: Added above, for the title bar.
        """
        window = self.page.viewport_size
        left, top = 120, 100  # beside and below the page's bars
        scale = min(
            (window["width"] - left - 60) / (width + 2 * margin),
            (window["height"] - top - 80) / (height + margin + above),
            1.5,
        )
        self.page.evaluate(
            """([scale, x, y, left, top]) => {
                const canvas = window.app.canvas, edge = canvas.canvas.getBoundingClientRect();
                canvas.deselectAll();
                canvas.ds.scale = scale;
                canvas.ds.offset = [(left - edge.x) / scale - x, (top - edge.y) / scale - y];
                canvas.setDirty(true, true);
            }""",
            [scale, x - margin, y - above, left, top],
        )
        self.page.wait_for_timeout(1500)
        return self.page.screenshot(
            clip={
                "x": left, "y": top, "width": (width + 2 * margin) * scale,
                "height": (height + margin + above) * scale,
            }
        )  # fmt: skip
