//! Adapters: where they are put, how they begin, and the file that holds them.
