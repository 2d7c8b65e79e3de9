"""Small PDF files, written by hand: what a test needs of them is seen at a glance."""

from __future__ import annotations


def pdf(*pages: str) -> bytes:
    """A PDF with one line of text on each page; an empty text is a page without any."""
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(len(pages)))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>"]
    for i, text in enumerate(pages):
        font = "<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents {4 + 2 * i} 0 R/Resources{font}>>")
        stream = f"BT /F 12 Tf 20 200 Td ({text}) Tj ET" if text else ""
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    body, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    n = len(objects) + 1
    trailer = (
        f"xref\n0 {n}\n0000000000 65535 f \n{table}trailer<</Size {n}/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF\n"
    )
    return body + trailer.encode()


def encrypted_pdf() -> bytes:
    """One that wants a password, by the same means with which a reader would open it."""
    import io

    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf("secret")))
    writer.encrypt("password", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()
