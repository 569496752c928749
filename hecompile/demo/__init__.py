"""`hecompile demo`: a page of this machine on which a caption becomes a picture that the server never sees."""
