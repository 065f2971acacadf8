/* Counts the words, letters and bytes of its standard input: an ordinary C program, which knows nothing of the grid.
 *
 * It runs natively (`cc wc.c && echo one two | ./a.out`), and, compiled for WASI, as an app of the entry kind `command`:
 * once per item, the item on standard input, standard output as its result.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  unsigned long bytes = 0, words = 0, letters = 0, longest = 0, length = 0;
  int c;
  while ((c = getchar()) != EOF) {
    bytes++;
    letters += isalpha(c) != 0;
    if (isspace(c)) {
      length = 0;
    } else {
      words += length == 0;
      length++;
      if (length > longest) longest = length;
    }
  }
  if (ferror(stdin)) {
    perror("wc: standard input");
    return 1;
  }
  printf("%lu words, %lu letters, %lu bytes, longest word %lu\n", words, letters, bytes, longest);
  return 0;
}
