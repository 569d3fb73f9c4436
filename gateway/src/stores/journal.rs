//! stub: owner FOUNDER
