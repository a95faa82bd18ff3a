// ---- Asking the server.

// The answer to a picture or a drawing, or { error } with a sentence, { busy, error } to try again, { again } if there was
// no server for some time.
async function read({ picture, strokes }) {
  const reply = await predict(picture?.file ?? await toFile(strokes));
  if (!reply.gone) return reply;
  gone = true;
  complain("The server does not answer; this page goes on when it is back.");
  do await wait(1000); while (!(await isServing()));
  gone = false;
  if (isEmpty(latest)) show(null);
  return { again: true };
}

async function predict(body, attempt = 1) {
  let response;
  try {
    response = await fetch("predict?details=true", { method: "POST", body });
  } catch {
    if (!(await isServing())) return { gone: true };
    return attempt < 2 ? predict(body, attempt + 1) : { error: "The picture could not be sent." };
  }
  const reply = await response.json().catch(() => ({}));
  if (response.ok && reply.digits) return { ...reply, digits: reply.digits.map(decoded) };
  return { error: reply.error ?? `The server answered with status ${response.status}.`, busy: response.status === 503 };
}

const bytes = base64 => Uint8Array.from(atob(base64), character => character.charCodeAt(0));
const decoded = digit =>
  ({ ...digit, pixels: bytes(digit.pixels), layers: digit.layers.map(layer => ({ ...layer, maps: bytes(layer.maps) })) });

const isServing = () => fetch("health", { cache: "no-store" }).then(response => response.ok, () => false);

const toFile = strokes => new Promise(done => onPaper(strokes).toBlob(done, "image/png"));
