package chatkit

import "mime"

// inlineImages has the types of images that a browser shows without running scripts, with their usual names.
var inlineImages = map[string]string{
	"image/png": "image/png", "image/jpeg": "image/jpeg", "image/jpg": "image/jpeg", "image/gif": "image/gif",
	"image/webp": "image/webp", "image/avif": "image/avif",
}

// InlineImage returns the usual name of an image type that is safe to show in a page: PNG, JPEG, GIF, WebP and AVIF. It ignores
// case and parameters, and takes image/jpg for image/jpeg. ok is false for any other type, such as SVG, which can have scripts.
//
// The Handler makes attachments of these types images, and all others files. [Files] should serve only these inline.
func InlineImage(mimeType string) (name string, ok bool) {
	typ, _, err := mime.ParseMediaType(mimeType)
	if err != nil {
		return "", false
	}
	name, ok = inlineImages[typ]
	return name, ok
}
