"""What is in the images: bills of materials, known vulnerabilities, and the digests of what they are built on."""
