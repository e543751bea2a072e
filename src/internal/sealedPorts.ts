/**
 * The ports that seal what goes through them. None is sealed again, because what was sealed in between would be opened
 * by nobody; so whatever is built over a sealed port is one itself.
 */
const ports = new WeakSet<object>()

export const isSealed = (port: object): boolean => ports.has(port)

export const addSealed = <Port extends object>(port: Port): Port => {
  ports.add(port)
  return port
}
