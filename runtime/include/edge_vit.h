/* edge-vit: classifies pictures on a small board with one merged ONNX file.
 *
 * Made from runtime/src/capi by cbindgen: change it there.
 */

#ifndef EDGE_VIT_H
#define EDGE_VIT_H

#include <stddef.h>
#include <stdint.h>

// How a call came out. The message of a failure is `edge_vit_last_error`'s.
typedef enum {
    // It was done.
    EDGE_VIT_STATUS_OK = 0,
    // An argument is null, too short or of no known value: the caller's mistake.
    EDGE_VIT_STATUS_ARGUMENT = 1,
    // The file cannot be read.
    EDGE_VIT_STATUS_FILE = 2,
    // The file is no model of this library, or a broken one.
    EDGE_VIT_STATUS_MODEL = 3,
    // The picture or the frame cannot be decoded: the next one may be good.
    EDGE_VIT_STATUS_PICTURE = 4,
    // The model failed while it ran.
    EDGE_VIT_STATUS_RUN = 5,
    // The self-test found other results than the desktop's: the model must not be trusted on this machine.
    EDGE_VIT_STATUS_SELF_TEST = 6,
    // A mistake of this library.
    EDGE_VIT_STATUS_INTERNAL = 7,
} EdgeVitStatus;

// The order and sampling of a frame's bytes.
typedef enum {
    // Red, green, blue; 3 bytes a pixel.
    EDGE_VIT_FORMAT_RGB = 0,
    // Blue, green, red; 3 bytes a pixel.
    EDGE_VIT_FORMAT_BGR = 1,
    // One byte of luma a pixel.
    EDGE_VIT_FORMAT_GREY = 2,
    // Y0 U Y1 V: 4 bytes for two pixels of a row. The width is even.
    EDGE_VIT_FORMAT_YUYV = 3,
    // A plane of Y, then one of U V pairs for each 2x2 pixels. Both sides are even.
    EDGE_VIT_FORMAT_NV12 = 4,
    // A plane of Y, then one of U and one of V, each at half the width and height. Both sides are even.
    EDGE_VIT_FORMAT_I420 = 5,
} EdgeVitFormat;

// Which values luma and chroma take in YUV and grey frames. RGB and BGR frames are always full.
typedef enum {
    // Luma 16 to 235, chroma 16 to 240: what cameras mean unless they say otherwise.
    EDGE_VIT_RANGE_LIMITED = 0,
    // 0 to 255, as in JPEG.
    EDGE_VIT_RANGE_FULL = 1,
} EdgeVitRange;

// The matrix between YUV and RGB. RGB and grey frames have none.
typedef enum {
    // ITU-R BT.601: webcams, anything of standard definition.
    EDGE_VIT_MATRIX_BT601 = 0,
    // ITU-R BT.709: what cameras of high definition may declare.
    EDGE_VIT_MATRIX_BT709 = 1,
} EdgeVitMatrix;

// A model that is ready to run, with the buffers that it runs in.
//
// Any thread may call any function with it. Calls with the same one wait for each other; calls with different ones do
// not. It is freed once, when no call uses it.
typedef struct EdgeVit EdgeVit;

// One plane of a frame.
typedef struct {
    // Its first byte. Null for a plane that the format does not have.
    const uint8_t *bytes;
    // How many bytes may be read from there: all rows, of the last one only the pixels.
    size_t len;
    // Bytes from a row to the next; 0 if rows follow without padding.
    size_t stride;
} EdgeVitPlane;

// A frame where it lies. A frame of zeros with its format, size and planes set is what most cameras give.
typedef struct {
    // An `EdgeVitFormat`.
    uint32_t format;
    // An `EdgeVitRange`.
    uint32_t range;
    // An `EdgeVitMatrix`.
    uint32_t matrix;
    // Pixels a row.
    uint32_t width;
    // Rows.
    uint32_t height;
    // RGB, BGR, grey and YUYV have one plane, NV12 two, I420 three.
    EdgeVitPlane planes[3];
} EdgeVitFrame;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Reads and prepares the model file at `path` (UTF-8, ended by a zero byte) and writes its address to `model`.
//
// What it gives is freed with `edge_vit_free`. On failure `model` is left as it is.
//
// # Safety
// `path` is null or a string that ends with a zero byte; `model` is null or may be written.
EdgeVitStatus edge_vit_open(const char *path, EdgeVit **model);

// Prepares the model file with these `len` bytes and writes its address to `model`. The bytes are not kept.
//
// What it gives is freed with `edge_vit_free`. On failure `model` is left as it is.
//
// # Safety
// `bytes` is null or `len` readable bytes; `model` is null or may be written.
EdgeVitStatus edge_vit_from_bytes(const uint8_t *bytes, size_t len, EdgeVit **model);

// A second handle of the same model, with buffers of its own: what another thread takes to classify at the same time.
// The weights are shared and live until the last handle is freed.
//
// # Safety
// `model` is null or comes from this library and is not freed; `copy` is null or may be written.
EdgeVitStatus edge_vit_share(const EdgeVit *model, EdgeVit **copy);

// Frees the model. Null is left alone.
//
// # Safety
// `model` is null, or comes from this library, is not freed yet, and no call is using it.
void edge_vit_free(EdgeVit *model);

// How many labels the model has, which is how many scores it gives; 0 for null.
//
// # Safety
// `model` is null or comes from this library and is not freed.
size_t edge_vit_labels(const EdgeVit *model);

// The label of score `index`, UTF-8 and ended by a zero byte, valid until the model is freed; null if there is none.
//
// # Safety
// `model` is null or comes from this library and is not freed.
const char *edge_vit_label(const EdgeVit *model, size_t index);

// Classifies a frame as it lies in memory; nothing of it is copied or kept. Its score for each label, 0 to 1, goes
// to `scores`, of which there are `len`: as many as labels. On failure the scores are not to be used. A model of clips keeps the newest
// frames, at its own size, and sees them with this one.
//
// After the first frame of a size no memory is taken outside the model.
//
// # Safety
// `model` is null or comes from this library and is not freed; `frame` is null or a frame whose planes are null or
// as many readable bytes as it says; `scores` is null or `len` floats that may be written and are not in the frame.
EdgeVitStatus edge_vit_classify_frame(const EdgeVit *model,
                                      const EdgeVitFrame *frame,
                                      float *scores,
                                      size_t len);

// Classifies the picture file with these `picture_len` bytes: JPEG (also as cameras send it), PNG or any other
// format that this build reads. Its score for each label, 0 to 1, goes to `scores`, of which there are `len`: as
// many as labels. On failure the scores are not to be used.
//
// # Safety
// `model` is null or comes from this library and is not freed; `picture` is null or `picture_len` readable bytes;
// `scores` is null or `len` floats that may be written and are not in the picture.
EdgeVitStatus edge_vit_classify_encoded(const EdgeVit *model,
                                        const uint8_t *picture,
                                        size_t picture_len,
                                        float *scores,
                                        size_t len);

// Forgets the frames that a model of clips has seen: the next one is of something else. A model of pictures keeps none.
//
// # Safety
// `model` is null or comes from this library and is not freed.
EdgeVitStatus edge_vit_forget(const EdgeVit *model);

// Proves on the pictures that the file carries that this machine computes what the desktop computed. The largest
// difference of an output, relative to the largest output, goes to `difference` unless that is null.
//
// # Safety
// `model` is null or comes from this library and is not freed; `difference` is null or may be written.
EdgeVitStatus edge_vit_self_test(const EdgeVit *model, float *difference);

// The version of this library, such as `0.1.0`.
const char *edge_vit_version(void);

// What went wrong in this thread's last call that failed, UTF-8 and ended by a zero byte; empty if none did. Valid
// until this thread's next call that fails.
const char *edge_vit_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* EDGE_VIT_H */
