//! The C interface. Its header is `runtime/include/edge_vit.h`.
