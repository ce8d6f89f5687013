"""A function of TensorFlow as an ONNX graph, where tf2onnx needs help."""

from __future__ import annotations

import numpy as np

from keras_bregman._keras import without_functions


def onnx_of(serve) -> bytes:
    """What an .onnx file holds.

    Args:
        serve: A `tf.function` with an input signature.
    """
    import onnx
    import tf2onnx

    # or what Keras compiles apart, grouped convolutions, would be no node
    with without_functions():
        proto, _ = tf2onnx.convert.from_function(
            serve,
            input_signature=serve.input_signature,
            custom_op_handlers={"Erfc": (_erfc, []), "Expm1": (_expm1, [])},
        )
        captures = serve.get_concrete_function().graph.captures
    # To the converter a tensor that a layer keeps is one more input.
    kept = {placeholder.name: tensor for tensor, placeholder in captures}
    read = set(_read(proto.graph))
    for one in [i for i in proto.graph.input if i.name in kept]:
        proto.graph.input.remove(one)
        if one.name in read:
            array = kept[one.name].numpy()
            value = onnx.numpy_helper.from_array(array, one.name)
            proto.graph.initializer.append(value)
    return proto.SerializeToString()


def _read(graph):
    """The names of all that nodes of a graph take."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read(inner)


def _erfc(graph, node, name, arguments):
    """1 - erf(x), of exact GELU."""
    _subtract(graph, node, "Erf", one_first=True)


def _expm1(graph, node, name, arguments):
    """exp(x) - 1, of CELU."""
    _subtract(graph, node, "Exp", one_first=False)


def _subtract(graph, node, operation, one_first):
    """Puts an operation and 1, one less the other, in the place of a node."""
    from tf2onnx import utils

    (output,) = node.output
    like = {
        "shapes": [graph.get_shape(output)],
        "dtypes": [graph.get_dtype(output)],
    }
    number = np.ones((), utils.map_onnx_to_numpy_type(like["dtypes"][0]))
    given = list(node.input)
    graph.remove_node(node.name)
    one = graph.make_const(utils.make_name("one"), number).output[0]
    inner = graph.make_node(operation, given, **like).output[0]
    pair = [one, inner] if one_first else [inner, one]
    graph.make_node("Sub", pair, outputs=[output], **like)
