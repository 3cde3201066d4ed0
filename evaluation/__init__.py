"""How good the search is: a folder of pictures with queries, held against what is found."""
