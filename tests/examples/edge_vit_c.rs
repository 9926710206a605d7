//! The library for C as a static archive, `libedge_vit_c.a`, for the test of the C interface. As an example of this
//! package it is built from the same crates as all other tests.

extern crate edge_vit as _;
