//! Figures: what a cluster needs to form, to notice a death, and to stay.
