//! Control messages against the tuples that OTP sends.
