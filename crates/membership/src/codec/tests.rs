//! Golden bytes and hostile input for the codec.
