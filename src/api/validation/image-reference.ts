// Whether a text names an image, by the grammar of distribution's references: [domain/]path[:tag][@digest].

const DOMAIN =
  /^(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*)(?::[0-9]+)?$/
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const TAG = /^\w[\w.-]{0,127}$/
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/
const LONGEST_NAME = 255

export function isImageReference(image: string): boolean {
  if (/^[a-f0-9]{64}$/.test(image)) return false
  const at = image.indexOf('@')
  if (at >= 0 && !DIGEST.test(image.slice(at + 1))) return false
  const named = at < 0 ? image : image.slice(0, at)
  const colon = named.lastIndexOf(':')
  const tagged = colon > named.lastIndexOf('/')
  if (tagged && !TAG.test(named.slice(colon + 1))) return false
  const name = tagged ? named.slice(0, colon) : named
  if (name.length > LONGEST_NAME) return false
  const slash = name.indexOf('/')
  const first = slash < 0 ? '' : name.slice(0, slash)
  const hasDomain = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase()
  if (hasDomain && !DOMAIN.test(first)) return false
  return (hasDomain ? name.slice(slash + 1) : name).split('/').every((part) => COMPONENT.test(part))
}
