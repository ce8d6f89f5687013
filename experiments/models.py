"""The networks of the paper and the report, by the functional API.

All take images as they come, 0 to 255, standardize them in their first layer
and answer with ten logits, as all datasets have ten classes. Every layer is
named, so that paths are the same in every build and process. `width` multiplies
all hidden widths.
"""

from __future__ import annotations

import keras
from keras import layers

from experiments.data import Inputs


def mlp(
    inputs: Inputs,
    width: float = 1.0,
    hidden: tuple[int, ...] = (200, 80),
) -> keras.Model:
    """The paper's perceptron, 784-200-80-10 on MNIST."""
    image, x = _standardized(inputs)
    x = layers.Flatten(name="flatten")(x)
    for i, units in enumerate(hidden, start=1):
        x = layers.Dense(
            _scaled(units, width), activation="relu", name=f"dense{i}"
        )(x)
    return _classifier(image, x, "mlp")


def lenet300(inputs: Inputs, width: float = 1.0) -> keras.Model:
    """LeNet-300-100, 784-300-100-10: 266,610 parameters on MNIST.

    LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document
    Recognition", Proceedings of the IEEE 86(11), 1998.
    """
    return mlp(inputs, width, hidden=(300, 100))


def convnet(inputs: Inputs, width: float = 1.0) -> keras.Model:
    """The paper's ConvNet for Fashion-MNIST, the report's Figure 1.

    Twice a 5x5 convolution with 64 filters, pooling and ReLU, then
    1024-128-10: 236,618 parameters at 28x28x1.
    """
    image, x = _standardized(inputs)
    for i in (1, 2):
        x = layers.Conv2D(_scaled(64, width), 5, name=f"conv{i}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(_scaled(128, width), activation="relu", name="dense")(x)
    return _classifier(image, x, "convnet")


def resnet18(inputs: Inputs, width: float = 1.0) -> keras.Model:
    """ResNet-18 with the CIFAR stem: one 3x3 convolution, no pooling.

    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR
    2016. At 32x32x3 11,173,962 trainable parameters.
    """
    image, x = _standardized(inputs)
    x = _convolution(x, _scaled(64, width), "stem")
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in (1, 2):
            strides = 2 if block == 1 and stage > 1 else 1
            name = f"stage{stage}_block{block}"
            x = _residual(x, _scaled(filters, width), strides, name)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return _classifier(image, x, "resnet18")


_VGG = {
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
}


def vgg13(
    inputs: Inputs, width: float = 1.0, batch_norm: bool = True
) -> keras.Model:
    """VGG-13 for CIFAR: ten 3x3 convolutions and one dense layer.

    Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale
    Image Recognition", ICLR 2015. At 32x32x3 9,416,010 trainable parameters,
    9,410,122 without batch normalization.
    """
    return _vgg("vgg13", inputs, width, batch_norm)


def vgg16(
    inputs: Inputs, width: float = 1.0, batch_norm: bool = True
) -> keras.Model:
    """VGG-16 for CIFAR: thirteen 3x3 convolutions and one dense layer.

    As `vgg13`. At 32x32x3 14,728,266 trainable parameters, 14,719,818 without
    batch normalization.
    """
    return _vgg("vgg16", inputs, width, batch_norm)


def _vgg(name, inputs, width, batch_norm):
    image, x = _standardized(inputs)
    for stage, depth in enumerate(_VGG[name], start=1):
        filters = _scaled(64 * min(2 ** (stage - 1), 8), width)
        for i in range(1, depth + 1):
            # the bias is kept beside batch normalization, as published
            x = _convolution(
                x,
                filters,
                f"conv{stage}_{i}",
                batch_norm=batch_norm,
                use_bias=True,
            )
        x = layers.MaxPooling2D(2, name=f"pool{stage}")(x)
    x = layers.Flatten(name="flatten")(x)
    return _classifier(image, x, name)


def _residual(x, filters, strides, name):
    """Two convolutions around which the input is added back."""
    y = _convolution(x, filters, f"{name}_conv1", strides)
    y = _convolution(y, filters, f"{name}_conv2", relu=False)
    if strides > 1 or x.shape[-1] != filters:
        x = _convolution(
            x, filters, f"{name}_shortcut", strides, size=1, relu=False
        )
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolution(
    x,
    filters,
    name,
    strides=1,
    size=3,
    batch_norm=True,
    use_bias=False,
    relu=True,
):
    if strides > 1 and size > 1:
        # as published: Keras' own "same" would pad unevenly here
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    else:
        padding = "same"
    x = layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding=padding,
        use_bias=use_bias,
        name=name,
    )(x)
    if batch_norm:
        x = layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, name=f"{name}_bn"
        )(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _standardized(inputs):
    image = keras.Input(inputs.shape, dtype="uint8", name="image")
    x = layers.Rescaling(
        [1 / (255 * d) for d in inputs.deviation],
        [-m / d for m, d in zip(inputs.mean, inputs.deviation, strict=True)],
        name="standardize",
    )(image)
    return image, x


def _classifier(image, x, name):
    # bfloat16 has 8 bits for a logit, too few for the loss
    logits = layers.Dense(10, name="logits", dtype="float32")(x)
    return keras.Model(image, logits, name=name)


def _scaled(units, width):
    return max(1, round(units * width))
