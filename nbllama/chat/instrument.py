"""Puts the counting into a parsed template: a step into every loop, macro and comparison, a charge
on every literal, slice and `~`."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


def instrument(template: nodes.Template) -> nodes.Template:
    """The same template, counted. The nodes call methods of `BoundedEnvironment`, the last ones that it has."""
    _Instrument().visit(template)
    return template


class _Instrument(NodeTransformer):
    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        if node.test is not None:
            node.test = nodes.And(_call("loop_step", [nodes.Const(0)], node), node.test, lineno=node.lineno)
        return _counted(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        return _counted(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        return _counted(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:
        self.generic_visit(node)
        return _counted(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        return _call("compared", [node], node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = [bound or nodes.Const(None) for bound in (node.arg.start, node.arg.stop, node.arg.step)]
        return _call("sliced", [node.node, *bounds], node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("joined", node.nodes, node)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _call("made", [node], node) if node.items else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _call("made", [node], node) if node.items else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _call("made", [node], node) if node.items and node.ctx == "load" else node


def _call(method: str, args: list[Any], at: nodes.Node) -> nodes.Call:
    function = nodes.EnvironmentAttribute(method, lineno=at.lineno)
    call = nodes.Call(function, args, [], None, None, lineno=at.lineno)
    if at.environment is not None:
        call.set_environment(at.environment)
    return call


def _counted(node: Any) -> nodes.Node:
    """A step at the start of the body, which also pays for the constant text that the body may write."""
    n_chars = sum(len(data.data) for part in node.body for data in part.find_all(nodes.TemplateData))
    n_chars += sum(len(part.data) for part in node.body if isinstance(part, nodes.TemplateData))
    step = nodes.ExprStmt(_call("loop_step", [nodes.Const(n_chars)], node), lineno=node.lineno)
    node.body.insert(0, step)
    return node  # type: ignore[no-any-return] # jinja's nodes have no common type with a body
