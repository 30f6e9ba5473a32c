/** Something in the kernel that was otherwise than planned. */
export interface Drift {
  /** `missing`: was not there or different; `surplus`: was there and must not */
  readonly kind: 'missing' | 'surplus'
  readonly what: string
  /** False: the kernel refuses it; or a container's link is lost, and the container can't be reached (or is gone as well). */
  readonly repaired: boolean
}
