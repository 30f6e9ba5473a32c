// A tar archive of small files in memory (POSIX ustar), as every tool unpacks it.

export interface TarFile {
  /** At most 100 bytes of ASCII. */
  readonly name: string
  readonly data: Uint8Array
}

const BLOCK = 512

/** Files belong to root and are for their owner only. */
export function tarOf(files: readonly TarFile[], wallMs: number): Buffer {
  const parts = files.flatMap(({ name, data }) => {
    const padding = (BLOCK - (data.byteLength % BLOCK)) % BLOCK
    return [header(name, data.byteLength, wallMs), data, Buffer.alloc(padding)]
  })
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)])
}

function header(name: string, sizeBytes: number, wallMs: number): Buffer {
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, length: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'ascii')
  }
  block.write(name, 0, 100, 'ascii')
  octal(0o600, 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(sizeBytes, 124, 12)
  octal(Math.floor(wallMs / 1000), 136, 12)
  block.write(' '.repeat(8), 148, 'ascii') // the sum is taken with blanks in its own place
  block.write('0', 156, 'ascii')
  block.write('ustar\x0000', 257, 'ascii')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'ascii')
  return block
}
