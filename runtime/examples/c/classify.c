/* Classifies one raw frame: what firmware in C does with each frame of its camera.
 *
 *     classify MODEL FRAME WIDTH HEIGHT     (FRAME holds rows of RGB, 3 bytes a pixel, without padding)
 *
 * Prints a line for each label: its score and its name. `tests/tests/c_interface.rs` builds and runs it.
 */

#include "edge_vit.h"

#include <stdio.h>
#include <stdlib.h>

/* Reads a whole file; NULL if that fails. */
static uint8_t *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    uint8_t *bytes = NULL;
    long size;
    if (fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) > 0 && fseek(file, 0, SEEK_SET) == 0) {
        *len = (size_t)size;
        bytes = malloc(*len);
        if (bytes != NULL && fread(bytes, 1, *len, file) != *len) {
            free(bytes);
            bytes = NULL;
        }
    }
    fclose(file);
    return bytes;
}

static int classify(EdgeVit *model, const EdgeVitFrame *frame) {
    size_t labels = edge_vit_labels(model);
    float *scores = malloc(labels * sizeof *scores);
    if (scores == NULL) {
        fprintf(stderr, "error: no memory for %zu scores\n", labels);
        return 1;
    }
    EdgeVitStatus status = edge_vit_classify_frame(model, frame, scores, labels);
    if (status != EDGE_VIT_STATUS_OK) {
        fprintf(stderr, "error: %s\n", edge_vit_last_error());
    } else {
        for (size_t i = 0; i < labels; i++) {
            printf("%.6f %s\n", (double)scores[i], edge_vit_label(model, i));
        }
    }
    free(scores);
    return status == EDGE_VIT_STATUS_OK ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: classify MODEL FRAME WIDTH HEIGHT (edge-vit %s)\n", edge_vit_version());
        return 2;
    }
    EdgeVit *model = NULL;
    if (edge_vit_open(argv[1], &model) != EDGE_VIT_STATUS_OK) {
        fprintf(stderr, "error: %s\n", edge_vit_last_error());
        return 1;
    }

    /* Before the first frame: prove that this machine computes what the desktop computed. */
    int failed = edge_vit_self_test(model, NULL) != EDGE_VIT_STATUS_OK;
    if (failed) {
        fprintf(stderr, "error: %s\n", edge_vit_last_error());
    } else {
        EdgeVitFrame frame = {.format = EDGE_VIT_FORMAT_RGB};
        frame.width = (uint32_t)strtoul(argv[3], NULL, 10);
        frame.height = (uint32_t)strtoul(argv[4], NULL, 10);
        uint8_t *bytes = read_file(argv[2], &frame.planes[0].len);
        if (bytes == NULL) {
            fprintf(stderr, "error: cannot read %s\n", argv[2]);
            failed = 1;
        } else {
            frame.planes[0].bytes = bytes;
            failed = classify(model, &frame);
            free(bytes);
        }
    }
    edge_vit_free(model);
    return failed;
}
