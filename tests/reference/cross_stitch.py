"""Cross-stitch networks, Misra et al., CVPR 2016: after each layer x_k = sum of alpha_kj x_j."""

from modules import layers_of, share_out

from reference.parts import linear


def bottom(bottom, rows, activation):
    stages = [
        ([network for (network,) in layers_of(layer)], stitch.alpha)
        for layer, stitch in zip(bottom.layers, bottom.stitches, strict=True)
    ]
    out = []
    for x in rows:
        streams = [x for _ in stages[0][0]]
        for layers, alpha in stages:
            values = []
            for stream, layer in zip(streams, layers, strict=True):
                values.append(activation(linear(stream, layer)))
            streams = []
            for k in range(len(values)):
                total = 0.0
                for j, value in enumerate(values):
                    total = total + alpha[k, j] * value  # one number, or one for each unit
                streams.append(total)
        out.append(streams)
    return out


def by_task(bottom, n_tasks):
    layers = share_out(list(bottom.layers.parameters()), n_tasks)
    return layers, [], [stitch.alpha for stitch in bottom.stitches]


VARIANTS = [{"alpha_unit": "unit"}]
