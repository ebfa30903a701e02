//! The bytes of Erlang distribution: terms, epmd, handshake, control messages, fragments.
