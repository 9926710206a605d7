//! A folder of models of which one is in use: install, switch, return to the last good one.
