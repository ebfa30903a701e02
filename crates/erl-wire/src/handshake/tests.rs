//! Both sides against each other, and against the bytes of OTP.
