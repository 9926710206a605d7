/* What the C interface answers to every kind of misuse, and that frames and files give the same scores.
 *
 *     misuse MODEL PICTURE FRAME WIDTH HEIGHT     (PICTURE and FRAME hold the same pixels: PNG, and rows of RGB)
 *
 * Says on the standard error which expectation does not hold. `c_interface.rs` builds and runs it.
 */

#include "edge_vit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static void expect(int holds, const char *what, int line) {
    if (!holds) {
        fprintf(stderr, "line %d: %s; the last error: \"%s\"\n", line, what, edge_vit_last_error());
        failures++;
    }
}

#define EXPECT(condition) expect((condition), #condition, __LINE__)
#define REFUSED(call, expected, words)                                                                                 \
    do {                                                                                                               \
        EXPECT((call) == EDGE_VIT_STATUS_##expected);                                                                  \
        EXPECT(strstr(edge_vit_last_error(), words) != NULL);                                                          \
    } while (0)

static uint8_t *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(1 << 20);
    if (file == NULL || bytes == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    *len = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        return 2;
    }
    size_t model_len, picture_len, frame_len;
    uint8_t *model_bytes = read_file(argv[1], &model_len);
    uint8_t *picture = read_file(argv[2], &picture_len);
    uint8_t *pixels = read_file(argv[3], &frame_len);

    EXPECT(strcmp(edge_vit_last_error(), "") == 0);
    EXPECT(strlen(edge_vit_version()) >= 5);

    /* No model. */
    EdgeVit *model = NULL;
    REFUSED(edge_vit_open("absent.onnx", &model), FILE, "absent.onnx");
    REFUSED(edge_vit_open(argv[2], &model), MODEL, "not an ONNX model");
    REFUSED(edge_vit_open("\xff", &model), ARGUMENT, "UTF-8");
    REFUSED(edge_vit_open(NULL, &model), ARGUMENT, "`path` is null");
    REFUSED(edge_vit_open(argv[1], NULL), ARGUMENT, "`model` is null");
    REFUSED(edge_vit_from_bytes(NULL, 0, &model), ARGUMENT, "`bytes` is null");
    REFUSED(edge_vit_from_bytes(model_bytes, SIZE_MAX, &model), ARGUMENT, "bytes long");
    REFUSED(edge_vit_from_bytes(model_bytes, model_len / 2, &model), MODEL, "ONNX");
    REFUSED(edge_vit_share(NULL, &model), ARGUMENT, "`model` is null");
    EXPECT(model == NULL);
    EXPECT(edge_vit_labels(NULL) == 0);
    EXPECT(edge_vit_label(NULL, 0) == NULL);
    edge_vit_free(NULL);

    EXPECT(edge_vit_from_bytes(model_bytes, model_len, &model) == EDGE_VIT_STATUS_OK);
    memset(model_bytes, 0, model_len); /* It is not kept. */
    size_t labels = edge_vit_labels(model);
    EXPECT(labels > 1);
    EXPECT(edge_vit_label(model, labels) == NULL);
    float *scores = malloc(labels * sizeof *scores);
    float *again = malloc(labels * sizeof *again);
    if (scores == NULL || again == NULL) {
        return 1;
    }

    float difference = NAN;
    EXPECT(edge_vit_self_test(model, &difference) == EDGE_VIT_STATUS_OK);
    EXPECT(difference >= 0 && difference < 1e-3f);
    REFUSED(edge_vit_self_test(NULL, &difference), ARGUMENT, "`model` is null");
    REFUSED(edge_vit_forget(NULL), ARGUMENT, "`model` is null");
    EXPECT(edge_vit_forget(model) == EDGE_VIT_STATUS_OK);

    /* A frame, and what is wrong with frames. */
    EdgeVitFrame good = {.format = EDGE_VIT_FORMAT_RGB};
    good.width = (uint32_t)strtoul(argv[4], NULL, 10);
    good.height = (uint32_t)strtoul(argv[5], NULL, 10);
    good.planes[0].bytes = pixels;
    good.planes[0].len = frame_len;
    EXPECT(edge_vit_classify_frame(model, &good, scores, labels) == EDGE_VIT_STATUS_OK);
    REFUSED(edge_vit_classify_frame(NULL, &good, scores, labels), ARGUMENT, "`model` is null");
    REFUSED(edge_vit_classify_frame(model, NULL, scores, labels), ARGUMENT, "`frame` is null");
    REFUSED(edge_vit_classify_frame(model, &good, NULL, labels), ARGUMENT, "`scores` is null");
    REFUSED(edge_vit_classify_frame(model, &good, again, labels - 1), ARGUMENT, "scores");
    EdgeVitFrame bad = good;
    bad.format = 77;
    REFUSED(edge_vit_classify_frame(model, &bad, again, labels), ARGUMENT, "format");
    bad = good;
    bad.range = 77;
    REFUSED(edge_vit_classify_frame(model, &bad, again, labels), ARGUMENT, "range");
    bad = good;
    bad.matrix = 77;
    REFUSED(edge_vit_classify_frame(model, &bad, again, labels), ARGUMENT, "matrix");
    bad = good;
    bad.planes[0].bytes = NULL;
    REFUSED(edge_vit_classify_frame(model, &bad, again, labels), ARGUMENT, "is null");
    bad = good;
    bad.planes[0].len--;
    EXPECT(edge_vit_classify_frame(model, &bad, again, labels) == EDGE_VIT_STATUS_PICTURE);
    bad = good;
    bad.planes[0].stride = 1;
    EXPECT(edge_vit_classify_frame(model, &bad, again, labels) == EDGE_VIT_STATUS_PICTURE);
    bad = good;
    bad.width = 0;
    EXPECT(edge_vit_classify_frame(model, &bad, again, labels) == EDGE_VIT_STATUS_PICTURE);
    bad = good;
    bad.width = UINT32_MAX;
    bad.height = UINT32_MAX;
    EXPECT(edge_vit_classify_frame(model, &bad, again, labels) == EDGE_VIT_STATUS_PICTURE);
    bad = good;
    bad.format = EDGE_VIT_FORMAT_NV12;
    REFUSED(edge_vit_classify_frame(model, &bad, again, labels), ARGUMENT, "is null");

    /* The same pixels as a file. */
    EXPECT(edge_vit_classify_encoded(model, picture, picture_len, again, labels) == EDGE_VIT_STATUS_OK);
    EXPECT(memcmp(scores, again, labels * sizeof *scores) == 0);
    EXPECT(edge_vit_classify_encoded(model, picture, picture_len / 2, again, labels) == EDGE_VIT_STATUS_PICTURE);
    EXPECT(edge_vit_classify_encoded(model, picture, 0, again, labels) == EDGE_VIT_STATUS_PICTURE);
    REFUSED(edge_vit_classify_encoded(model, NULL, 0, again, labels), ARGUMENT, "`picture` is null");
    REFUSED(edge_vit_classify_encoded(model, picture, picture_len, again, labels + 1), ARGUMENT, "scores");

    /* A second handle outlives the first. */
    EdgeVit *second = NULL;
    EXPECT(edge_vit_share(model, &second) == EDGE_VIT_STATUS_OK);
    edge_vit_free(model);
    EXPECT(edge_vit_classify_frame(second, &good, again, labels) == EDGE_VIT_STATUS_OK);
    EXPECT(memcmp(scores, again, labels * sizeof *scores) == 0);
    edge_vit_free(second);

    free(scores);
    free(again);
    free(model_bytes);
    free(picture);
    free(pixels);
    return failures == 0 ? 0 : 1;
}
